"""What a patch or a slide is called, as the data's own words have it."""

import math

TUMOUR, NORMAL, MIXED, UNLABELLED = "tumor", "normal", "mixed", "unlabelled"


def label_of(tumour_fraction: float, min_tumour: float) -> str:
    """Return the label of a patch: tumour from `min_tumour` on, normal at 0, mixed between, unlabelled if NaN."""
    if math.isnan(tumour_fraction):
        return UNLABELLED
    if tumour_fraction == 0:
        return NORMAL
    return TUMOUR if tumour_fraction >= min_tumour else MIXED
