"""Which patches of a slide are cut, one rule a file.

A protocol exposes

- ``plan(slide, truth, job, settings) -> Plan``: the patches of one slide. It reads what it needs of the slide, knows no
  other slide, and gives the same plan in every process;
- ``mask(truth, box, side) -> (side, side) bool``: the ground truth of one of these patches;
- ``NEEDS_QUOTA``: whether `SlideJob.quota` says how many patches a slide without tumour gives, so that those with
  tumour have to be planned first;
- ``TAKES_TISSUE_MASKS``: whether `SlideJob.tissue_mask` may stand for the tissue that it would find itself.
"""

from wsi_maxmin._plugins import Plugins

__all__ = ["plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="protocol")
