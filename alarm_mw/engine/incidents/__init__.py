"""Incidents: rules with a life, from the first match to the end. Pure.

- `incident`: the values: an incident, of what each alarm was last notified, the marks that hold messages back.
- `reconcile`: compares its state with what each alarm was last notified of, and returns what must be sent now.
- `incidents`: what an engine asks: it takes matches and deadlines, returns firings, and notes what must be stored.
- `marking`: finds what holds messages back: inhibition (`inhibition`), the time of day (`time_intervals`), the alarms.
- `notices`: makes firings of notifications.
- `stored`: the values that are stored, and the records that were judged.
- `chat`: what people write about incidents in a chat, and what is answered.
- `tracker`: finds the incident of a match, moves it through its states, and keeps its deadlines.
"""
