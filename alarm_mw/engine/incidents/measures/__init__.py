"""What rules measure over a time, for each value of their key. Pure.

- `measures`: the states of all rules and keys: bounded, with deadlines, and with what must be stored.
- `heartbeat`: the state of one heartbeat.
- `alert`: the state of one alert of another program.
- `windows`: counts over a sliding time: shares, quantiles, spikes.
- `values`: which values were seen: their number, and those that are new.
- `judgement`: what follows from a state.
"""
