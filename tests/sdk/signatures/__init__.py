"""Requests that unmodified SDKs sign, checked by `pilotlight-access` without a gateway."""
