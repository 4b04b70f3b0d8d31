"""The neural networks, their parts, and the loop that trains them."""
