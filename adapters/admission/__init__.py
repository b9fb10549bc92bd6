"""What makes an adapter directory one that the engine may load, and what makes it unchangeable."""
