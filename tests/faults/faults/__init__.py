"""Faults that are injected into real processes, each ending with the ledger: `faults.catalogue` names them."""
