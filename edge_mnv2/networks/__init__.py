"""The paper's networks: each as a graph, and beside it the decoder of that graph's outputs.

MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., arXiv 1801.04381). Nothing here knows
which backend runs a graph, where frames come from, or where weights are kept.
"""
