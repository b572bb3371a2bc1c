"""Families of real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from alarm_mw.system.processes import family, newest_pid, sockets_of, sockets_of_family

PROGRAM = """
import os, socket, sys
ours = socket.socket()
if os.fork() == 0:
    theirs = socket.socket()
    print(os.getppid(), os.getpid(), os.fstat(theirs.fileno()).st_ino, theirs.fileno(), flush=True)
sys.stdin.read()
"""


def test_grandchildren_belong_to_the_family() -> None:
    """The sockets of all descendants are found, each with the descriptor that its owner knows it by."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        child, grandchild, inode, fd = map(int, process.stdout.readline().split())
        assert list(family(child)) == [child, grandchild]
        assert {child, grandchild} < {*family(os.getpid())}
        assert sockets_of_family(child)[inode] == fd
        assert inode not in sockets_of(child)
        process.stdin.close()


def test_a_shared_socket_has_the_elders_descriptor() -> None:
    """A socket that parent and child have under different numbers is told by the parent's."""
    with socket.socket() as ours:
        command = [sys.executable, "-c", "print(flush=True); input()"]
        copy = os.dup(ours.fileno())
        os.set_inheritable(copy, True)
        with subprocess.Popen(
            command, pass_fds=[copy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii"
        ) as child:
            os.close(copy)
            assert child.stdout
            child.stdout.readline()
            inode = os.fstat(ours.fileno()).st_ino
            assert sockets_of(child.pid)[inode] == copy
            assert sockets_of_family(os.getpid())[inode] == ours.fileno()
            child.communicate("\n")


def test_a_process_that_has_gone() -> None:
    """A process that has ended has no family and no sockets, and that is no error."""
    process = subprocess.Popen(["true"])
    process.wait()
    assert list(family(process.pid)) == [process.pid]
    assert sockets_of_family(process.pid) == {}


def test_a_new_process_has_the_newest_number() -> None:
    """Whoever has asked before knows that there is one, and mostly without any of it being looked for."""
    before = newest_pid()
    process = subprocess.Popen(["true"])
    assert newest_pid() != before
    process.wait()
