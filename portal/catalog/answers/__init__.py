"""The answers: frozen dataclasses that pages render and that *are* the JSON.

Sizes are bytes, tokens are token ids, ``step`` is the global 1-based optimizer update.
"""

from portal.catalog.answers.checkpoints import (
    CheckpointDetail,
    CheckpointRef,
    CheckpointRow,
    CheckpointView,
    ConfigChange,
    DataSeen,
    DerivedRun,
    EvaluationChange,
    EvaluationView,
    Measure,
    SourceTokens,
)
from portal.catalog.answers.compare import (
    ComparedEvaluation,
    ComparedFile,
    ComparedResult,
    ComparedRow,
    ComparedSeries,
    ComparedSource,
    ComparedSubject,
    Comparison,
)
from portal.catalog.answers.data import (
    ChunkRow,
    ChunkSample,
    ChunkSpanView,
    ChunkView,
    DataAtStep,
    OrderView,
    StepRows,
    TokenBatch,
    TokenRow,
)
from portal.catalog.answers.files import CopyState, FileView
from portal.catalog.answers.findings import (
    EventView,
    FindingCounts,
    FindingGroup,
    FindingReviewView,
    FindingView,
    FoundFinding,
)
from portal.catalog.answers.metrics import MetricAnswer, MetricAtStep, SeriesBuckets, SeriesView
from portal.catalog.answers.paging import Page
from portal.catalog.answers.runs import (
    ConfigTable,
    ConfigView,
    Lineage,
    OrderSpanView,
    RunDetail,
    RunSummary,
    SettingRow,
    StageView,
    Timeline,
)
from portal.catalog.answers.search import SearchAnswer, SearchGroup, SearchHit
from portal.catalog.answers.steps import Pair, PairChunk, PairData, StepView
from portal.catalog.answers.tensors import TensorFile, TensorTable, TensorView
from portal.catalog.answers.verdicts import VerdictView

__all__ = [
    "CheckpointDetail",
    "CheckpointRef",
    "CheckpointRow",
    "CheckpointView",
    "ChunkRow",
    "ChunkSample",
    "ChunkSpanView",
    "ChunkView",
    "ComparedEvaluation",
    "ComparedFile",
    "ComparedResult",
    "ComparedRow",
    "ComparedSeries",
    "ComparedSource",
    "ComparedSubject",
    "Comparison",
    "ConfigChange",
    "ConfigTable",
    "ConfigView",
    "CopyState",
    "DataAtStep",
    "DataSeen",
    "DerivedRun",
    "EvaluationChange",
    "EvaluationView",
    "EventView",
    "FileView",
    "FindingCounts",
    "FindingGroup",
    "FindingReviewView",
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
    "SettingRow",
    "SourceTokens",
    "StageView",
    "StepRows",
    "StepView",
    "TensorFile",
    "TensorTable",
    "TensorView",
    "Timeline",
    "TokenBatch",
    "TokenRow",
    "VerdictView",
]
