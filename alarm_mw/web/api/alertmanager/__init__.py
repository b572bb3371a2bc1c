"""Alertmanager's API v2, so that its clients work unchanged: the values (`schema`), alerts, silences, and `routes`.

The document is api/v2/openapi.yaml of Alertmanager.
"""
