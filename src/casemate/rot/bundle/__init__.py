"""Firmware bundles: build, sign, sign again as another owner, inspect, and verify against fuses.

The question that most users ask: would a device with these fuses boot this bundle, and if not, why?

    verdict = judge(bundle, fuses)
    verdict.boots, verdict.error

The format itself is `casemate.formats.firmware_bundle`'s.
"""
