"""Language models as backbones."""

import logging

# Before anything here imports peft, which imports bitsandbytes: that one asks for a package of precompiled kernels at every
# import, also where no 4-bit layer will ever be.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
