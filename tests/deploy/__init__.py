"""The chart and the images in `deploy/`, without a cluster."""
