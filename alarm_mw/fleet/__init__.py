"""What masters on several machines share: incidents, budgets, silences and orders. On Redis or Valkey.

Nothing here is needed for a machine's own alarms: its outbox is the truth, and the shared state may be lost any time.
`alarm_mw.model.fleet` is the seam to the master.

- `member`: one machine in the fleet, which joins and leaves.
- `claimant`: claims messages: the fleet decides which of its machines sends each of them.
- `messages`: what a message is to the fleet, and what is sent for all machines.
- `link`: the connection, heartbeats, events, and the way back after a failure.
- `relay`: silences, orders and silent machines, in both directions.
- `memory`: what a member knows to be told, whatever becomes of the shared state.
- `restore`: gives that back to the shared state.
- `store`: the operations on the shared state.
- `redis_store`, `functions.lua`, `addresses`: the same on Redis.
- `overview`: the whole fleet for people.
"""
