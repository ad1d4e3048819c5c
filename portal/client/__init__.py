"""The portal's API from Python: what the commands use and what a user imports.

from portal.client import Portal

with Portal("http://127.0.0.1:8360") as portal:
    step = portal.step("demo/tiny", 150)
"""

from portal.client.api import Portal
from portal.client.batch import save_batch
from portal.client.download import DownloadProgress
from portal.client.pair import PairChoice, PairReport, download_pair
from portal.client.verify import FileVerdict, VerifyReport, verify_folder

__all__ = [
    "DownloadProgress",
    "FileVerdict",
    "PairChoice",
    "PairReport",
    "Portal",
    "VerifyReport",
    "download_pair",
    "save_batch",
    "verify_folder",
]
