"""Reads a secret of this pod: python read_secret.py TARGET NAME"""
import sys

import grpc
from postern.v1 import secret_pb2, secret_pb2_grpc

target, name = sys.argv[1:]
with grpc.insecure_channel(target) as channel:
    secrets = secret_pb2_grpc.SecretServiceStub(channel)
    answer = secrets.Get(secret_pb2.GetSecretRequest(name=name))
print(answer.value.decode())
