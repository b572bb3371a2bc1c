"""What an alarm says: the facts of a firing, the templates of a configuration, and the default text for people.

Pure: facts in, text out. How a receiver wants it is the business of its action.
"""
