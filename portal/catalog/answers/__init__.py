"""The answers: frozen dataclasses that pages render and that *are* the JSON.

Sizes are bytes, tokens are token ids, ``step`` is the global 1-based optimizer update.
"""

from portal.catalog.answers.checkpoints import CheckpointRef, CheckpointRow, CheckpointView, EvaluationView, Measure
from portal.catalog.answers.data import ChunkRow, ChunkSpanView, ChunkView, DataAtStep, OrderView, TokenBatch, TokenRow
from portal.catalog.answers.files import FileView
from portal.catalog.answers.findings import EventView, FindingCounts, FindingView, FoundFinding
from portal.catalog.answers.metrics import MetricAnswer, MetricAtStep, SeriesBuckets, SeriesView
from portal.catalog.answers.paging import Page
from portal.catalog.answers.runs import ConfigView, Lineage, OrderSpanView, RunDetail, RunSummary, StageView, Timeline
from portal.catalog.answers.search import SearchAnswer, SearchGroup, SearchHit
from portal.catalog.answers.steps import Pair, PairChunk, PairData, StepView

__all__ = [
    "CheckpointRef",
    "CheckpointRow",
    "CheckpointView",
    "ChunkRow",
    "ChunkSpanView",
    "ChunkView",
    "ConfigView",
    "DataAtStep",
    "EvaluationView",
    "EventView",
    "FileView",
    "FindingCounts",
    "FindingView",
    "FoundFinding",
    "Lineage",
    "Measure",
    "MetricAnswer",
    "MetricAtStep",
    "OrderSpanView",
    "OrderView",
    "Page",
    "Pair",
    "PairChunk",
    "PairData",
    "RunDetail",
    "RunSummary",
    "SearchAnswer",
    "SearchGroup",
    "SearchHit",
    "SeriesBuckets",
    "SeriesView",
    "StageView",
    "StepView",
    "Timeline",
    "TokenBatch",
    "TokenRow",
]
