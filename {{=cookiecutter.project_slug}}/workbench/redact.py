"""Removes keys and passwords from everything that a run writes."""

import json
import logging
import os
import re

HIDDEN = "***"
# Environment variables that hold a secret, such as WANDB_API_KEY or MLFLOW_TRACKING_PASSWORD.
SECRET_VARIABLE = re.compile(r"((^|_)KEY|APIKEY|TOKEN|PASSWORD|PASSWD|SECRET)$")
# A shorter value would be found in ordinary words.
SHORTEST = 6
# postgresql://user:password@host
IN_URL = re.compile(r"(://[^\s/:@\"']*):[^\s/\"']+@")
# logger.password=..., "api_key": "..."
NAMED = re.compile(
    r"((?:api_?key|password|secret)[\"']?\s*[:=]\s*[\"']?)(?!null|None)[^\s\"',}]+", re.I
)


def redact(text: str) -> str:
    """The text without passwords in URLs and without the secrets of environment variables."""
    text = NAMED.sub(rf"\1{HIDDEN}", IN_URL.sub(rf"\1:{HIDDEN}@", text))
    for name, value in os.environ.items():
        if SECRET_VARIABLE.search(name.upper()) and len(value) >= SHORTEST:
            # JSON escapes backslashes and quotes.
            for written in {value, json.dumps(value)[1:-1]}:
                text = text.replace(written, HIDDEN)
    return text


def redact_record(record: logging.LogRecord) -> bool:
    """A logging filter that removes secrets from a record and its traceback."""
    record.msg, record.args = redact(record.getMessage()), ()
    if record.exc_info:
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
    return True
