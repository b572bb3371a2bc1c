"""Reads what this process prints, and recognizes the lines that its own logging printed."""
