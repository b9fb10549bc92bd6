"""How Wardrobe is shipped: images, the chart, and what writes their derived parts."""
