"""From files, flags and keywords to one frozen Settings."""
