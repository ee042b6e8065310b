"""Will gradient descent reach the global minimum, how fast, and why do we know?"""

from gramian.certify.certification import Certification, report_facts
from gramian.certify.description import Description
from gramian.certify.evidence import Evidence
from gramian.certify.five_stages import certify
from gramian.certify.theorems import THEOREMS, certificates
from gramian.conditions import (
    CONTRADICTED,
    IMPLIED,
    NOT_SHOWN,
    OBSERVED,
    UP_TO_CONSTANTS,
    Certificate,
    Condition,
)

__all__ = [
    "CONTRADICTED",
    "IMPLIED",
    "NOT_SHOWN",
    "OBSERVED",
    "THEOREMS",
    "UP_TO_CONSTANTS",
    "Certificate",
    "Certification",
    "Condition",
    "Description",
    "Evidence",
    "certificates",
    "certify",
    "report_facts",
]
