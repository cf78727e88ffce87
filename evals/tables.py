"""The tables of the store, and what files that were written by earlier versions lack of them."""

from __future__ import annotations

from collections.abc import Mapping

VERSION = 3
"""Format of the file, kept in it as its user_version."""

_SCHEMA = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, created TEXT NOT NULL, kind TEXT NOT NULL, scenario TEXT NOT NULL,
    scenario_file TEXT NOT NULL, scenario_hash TEXT NOT NULL, options TEXT NOT NULL, status TEXT NOT NULL,
    verdict TEXT, pick TEXT, seconds REAL NOT NULL DEFAULT 0) STRICT;
CREATE TABLE trials (
    run_id TEXT NOT NULL REFERENCES runs(id), candidate TEXT NOT NULL, variant TEXT NOT NULL, split TEXT NOT NULL,
    sample_id TEXT NOT NULL, output TEXT, score REAL, reason TEXT, error TEXT, usage TEXT NOT NULL,
    seconds REAL NOT NULL, cached_requests INTEGER NOT NULL, response_keys TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), steps TEXT, scoring TEXT,
    first_token_seconds REAL,
    PRIMARY KEY (run_id, candidate, variant, split, sample_id)) STRICT, WITHOUT ROWID;
CREATE TABLE fits (
    run_id TEXT NOT NULL REFERENCES runs(id), candidate TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (run_id, candidate)) STRICT, WITHOUT ROWID;
CREATE TABLE responses (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    usage TEXT NOT NULL, seconds REAL NOT NULL, billed_usd REAL NOT NULL, run_id TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), tool_calls TEXT, logprob REAL,
    first_token_seconds REAL) STRICT, WITHOUT ROWID;
CREATE TABLE embeddings (
    key TEXT PRIMARY KEY, vector BLOB NOT NULL, usage TEXT NOT NULL, seconds REAL NOT NULL, run_id TEXT NOT NULL,
    billed_usd REAL NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE TABLE losses (run_id TEXT NOT NULL, model TEXT NOT NULL, usage TEXT NOT NULL, billed_usd REAL NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))) STRICT;
CREATE TABLE unsettled (run_id TEXT NOT NULL, call TEXT NOT NULL, usd REAL NOT NULL,
    PRIMARY KEY (run_id, call)) STRICT, WITHOUT ROWID;
"""

_SINCE_1 = """
ALTER TABLE trials ADD COLUMN steps TEXT;
ALTER TABLE trials ADD COLUMN scoring TEXT;
ALTER TABLE responses ADD COLUMN tool_calls TEXT;
ALTER TABLE responses ADD COLUMN logprob REAL;
ALTER TABLE embeddings ADD COLUMN billed_usd REAL NOT NULL DEFAULT 0;
CREATE TABLE losses (run_id TEXT NOT NULL, model TEXT NOT NULL, usage TEXT NOT NULL, billed_usd REAL NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))) STRICT;
"""
"""What a file of format 1 lacks of format 2."""

_SINCE_2 = """
ALTER TABLE trials ADD COLUMN first_token_seconds REAL;
ALTER TABLE responses ADD COLUMN first_token_seconds REAL;
CREATE TABLE unsettled (run_id TEXT NOT NULL, call TEXT NOT NULL, usd REAL NOT NULL,
    PRIMARY KEY (run_id, call)) STRICT, WITHOUT ROWID;
"""
"""What a file of format 2 lacks."""

CHANGES: Mapping[int, str] = {0: _SCHEMA, 1: _SINCE_1 + _SINCE_2, 2: _SINCE_2, VERSION: ""}
"""Format of a file -> statements, with a semicolon behind each, that bring it to this version's."""
