"""Networks: backbone + decoder, by the names of `kdam_ray.zoo`; their weights and their cost.

Importing this package imports torch but not timm, which costs seconds and is only needed to build a backbone.
"""

from kdam_ray.models.cost import Cost, activation_bytes, network_cost
from kdam_ray.models.network import Network, Teacher, build_network, network_of

__all__ = ["Cost", "Network", "Teacher", "activation_bytes", "build_network", "network_cost", "network_of"]
