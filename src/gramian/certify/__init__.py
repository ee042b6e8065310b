"""Will gradient descent reach the global minimum, how fast, and why do we know?"""

from gramian.certify.certification import Certification, report_facts
from gramian.certify.certify import certify
from gramian.certify.conditions import CERTIFIED, CONTRADICTED, NOT, OBSERVED, Certificate, Condition
from gramian.certify.evidence import Evidence
from gramian.certify.theorems import THEOREMS, certificates

__all__ = [
    "CERTIFIED",
    "CONTRADICTED",
    "NOT",
    "OBSERVED",
    "THEOREMS",
    "Certificate",
    "Certification",
    "Condition",
    "Evidence",
    "certificates",
    "certify",
    "report_facts",
]
