"""Prints how things stand in this pod: python read_status.py TARGET"""
import sys

import grpc
from google.protobuf import json_format
from postern.v1 import status_pb2, status_pb2_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    status = status_pb2_grpc.StatusServiceStub(channel)
    answer = status.Get(status_pb2.GetStatusRequest())
print(json_format.MessageToJson(answer))
