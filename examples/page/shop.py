"""A shop that prints what shops print; now and then a payment fails."""

from __future__ import annotations

import random
import time

#: How often a payment fails, of two a second.
FAILS = 0.35

PATHS = ("/", "/search?q=lamp", "/cart", "/item/4711", "/checkout", "/static/app.css")


def main() -> None:
    """Print until somebody ends it."""
    chance, order = random.Random(3), 4200  # so that each demo looks the same
    while True:
        for _ in range(chance.randint(3, 9)):
            print(f'10.0.{chance.randint(0, 9)}.{chance.randint(2, 250)} "GET {chance.choice(PATHS)}" 200', flush=True)
        if chance.random() < FAILS:
            order += 1
            print(f"payment {order} failed: adyen unreachable after 6 s, retry 2 of 3", flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
