"""Removes keys and passwords from everything that a run writes."""

import json
import logging
import os
import re
from functools import lru_cache

HIDDEN = "***"
# Environment variables that hold a secret, such as WANDB_API_KEY or MLFLOW_TRACKING_PASSWORD.
SECRET_VARIABLE = re.compile(r"((^|_)KEY|APIKEY|TOKEN|PASSWORD|PASSWD|SECRET)$")
# A shorter value would be found in ordinary words.
SHORTEST = 6
# postgresql://user:password@host
IN_URL = re.compile(r"(://[^\s/:@\"']*):[^\s/\"']+@")
# logger.password=..., "api_key": "..."; in lower case, such a text has one of the words.
WORDS = ("key", "password", "secret")
NAMED = re.compile(
    r"((?:api_?key|password|secret)[\"']?\s*[:=]\s*[\"']?)(?!null|None)[^\s\"',}]+", re.I
)


def redact(text: str) -> str:
    """The text without passwords in URLs and without the secrets of environment variables."""
    # Most texts contain neither, and searching for words is faster than for patterns.
    if "://" in text:
        text = IN_URL.sub(rf"\1:{HIDDEN}@", text)
    lower = text.lower()
    if any(word in lower for word in WORDS):
        text = NAMED.sub(rf"\1{HIDDEN}", text)
    for value in [os.environ.get(name, "") for name in os.environ if _is_secret(name)]:
        if len(value) >= SHORTEST:
            # JSON escapes backslashes and quotes.
            for written in {value, json.dumps(value)[1:-1]}:
                text = text.replace(written, HIDDEN)
    return text


@lru_cache(maxsize=10_000)
def _is_secret(name: str) -> bool:
    """Whether an environment variable holds a secret."""
    return SECRET_VARIABLE.search(name.upper()) is not None


def redact_record(record: logging.LogRecord) -> bool:
    """A logging filter that removes secrets from a record and its traceback."""
    record.msg, record.args = redact(record.getMessage()), ()
    if record.exc_info:
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
    return True
