"""A protocol: twenty epochs at a higher rate, without augmentation.

An example, and no protocol of any paper.
"""

from nsdbench.plugin import Protocol

PROTOCOL = Protocol("brief", lr=0.05, epochs=20, augment=False)
