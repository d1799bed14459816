"""The stream loop: runs a `Stage` exactly once over Kafka, with Redis as a view. See docs/streams.md.

from rondo_common.streams.runner import StageRunner
from rondo_common.streams.runtime import run_stage
from rondo_common.streams.view import StateView, AsyncStateView
from rondo_common.streams.effector import AsyncEffector, ThreadEffector
"""
