"""One of each kind that nsdbench takes from outside, and methods that use them."""
