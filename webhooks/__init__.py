"""Admission: what the API server asks us before it stores a Pod, a virtual machine or one of our objects.

Sits on the Pod-create path of the whole cluster. So every decision is a pure function of the request and an
immutable view of the fleet, made in memory; nothing here waits for the manager or reads the API while a
request is open, and whatever fails lets the request pass. Read `review`, then `fleet_view`, then `pod`.
"""
