"""Decoders by name: how four feature maps become logits per task.

One file a system, one line here (and in `zoo.DECODERS`).

A decoder is built from (channels of the four levels, tasks, row of `zoo.BACKBONES`) and maps the four levels
[B, C_k, h_k, w_k] to a dict:

| key                  | value                                                                                       |
|----------------------|---------------------------------------------------------------------------------------------|
| `semseg`             | the prediction: logits [B, task's channels, h_0, w_0]; one for each task, in their order    |
| `aux/.../semseg`     | while training: a further prediction of that task, any size, trained by the task's own loss |
| `classified/.../depth` | while training: logits of the task's label cut into classes (`tasks.label_classes`)       |
| `penalty/...`        | while training: a term [] added to the loss as it is                                        |

It sees all levels and all tasks at once, so it may mix them as it likes. Parameters under a module named `mix` (the
units of Cross-Stitch and NDDR-CNN) learn at `Optim.mixing_lr` times the rate, those under `architecture` by their own
optimiser.
"""

from collections.abc import Callable

from torch import nn

from kdam_ray.models.decoders.atrc import ATRC
from kdam_ray.models.decoders.context_search import ContextSearch
from kdam_ray.models.decoders.cross_stitch import CrossStitch
from kdam_ray.models.decoders.demt import DeMT
from kdam_ray.models.decoders.invpt import InvPT
from kdam_ray.models.decoders.mqtransformer import MQTransformer
from kdam_ray.models.decoders.mt_baseline import MTBaseline
from kdam_ray.models.decoders.mtformer import MTFormer
from kdam_ray.models.decoders.mti_net import MTINet
from kdam_ray.models.decoders.nddr_cnn import NDDRCNN
from kdam_ray.models.decoders.pad_net import PADNet
from kdam_ray.models.decoders.pap import PAP
from kdam_ray.models.decoders.psd import PSD

DECODERS: dict[str, Callable[..., nn.Module]] = {
    "mt_baseline": MTBaseline,
    "cross_stitch": CrossStitch,
    "nddr_cnn": NDDRCNN,
    "pad_net": PADNet,
    "pap": PAP,
    "psd": PSD,
    "mti_net": MTINet,
    "atrc": ATRC,
    "context_search": ContextSearch,
    "mtformer": MTFormer,
    "mqtransformer": MQTransformer,
    "demt": DeMT,
    "invpt": InvPT,
}
