"""What the paper published, in which order its tables are run again, and both beside each other."""

from wsi_maxmin.paper._differences import what_differs
from wsi_maxmin.paper._inference_table import inference_table
from wsi_maxmin.paper._protocol import (
    INFERENCE,
    PROTOCOLS,
    InferenceRow,
    InferenceTable,
    OrderedRun,
    Protocol,
    ScoreRow,
    ScoreTable,
    ShownImage,
    load_inference,
    load_protocol,
    load_scores,
)
from wsi_maxmin.paper._score_table import score_table

__all__ = [
    "INFERENCE",
    "PROTOCOLS",
    "InferenceRow",
    "InferenceTable",
    "OrderedRun",
    "Protocol",
    "ScoreRow",
    "ScoreTable",
    "ShownImage",
    "inference_table",
    "load_inference",
    "load_protocol",
    "load_scores",
    "score_table",
    "what_differs",
]
