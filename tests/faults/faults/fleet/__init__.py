"""Faults of a fleet: real masters that share a real Redis, each with a line to it that can be cut or held up.

`fleet.catalogue` names the scenarios, `fleet.chaos` combines faults by chance.
"""
