"""AdamW as PyTorch has it, without the two seconds that its first call takes."""

from inspect import unwrap

import torch
from torch.optim import AdamW


class LeanAdamW(AdamW):
    """AdamW (Loshchilov, Hutter 2019) that never imports the compiler of PyTorch.

    PyTorch wraps an optimizer's methods so that `torch.compile` leaves them alone, and the first
    call of any imports all of the compiler. Our steps are never within what is compiled.
    """

    add_param_group = unwrap(AdamW.add_param_group)
    zero_grad = unwrap(AdamW.zero_grad)
    state_dict = unwrap(AdamW.state_dict)
    load_state_dict = unwrap(AdamW.load_state_dict)
    step = torch.no_grad()(unwrap(AdamW.step))
