"""Messages of the Open Inference Protocol, version 2, over gRPC, from a table of their fields.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto. The table
says what that file says of the fields that we read or write; others, such as `parameters`, are passed over, as protocol
buffers have it. The classes are made when this module is imported, so that nothing has to be generated; they have a
pool of descriptors of their own, since a client in the same process may bring the same names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
# The numbers of fields are places in these lists, unless one is given.
FIELDS: Mapping[str, Sequence[str]] = {
    "ServerLiveRequest": [],
    "ServerLiveResponse": ["bool live"],
    "ServerReadyRequest": [],
    "ServerReadyResponse": ["bool ready"],
    "ModelReadyRequest": ["string name", "string version"],
    "ModelReadyResponse": ["bool ready"],
    "ServerMetadataRequest": [],
    "ServerMetadataResponse": ["string name", "string version", "repeated string extensions"],
    "ModelMetadataRequest": ["string name", "string version"],
    "ModelMetadataResponse.TensorMetadata": ["string name", "string datatype", "repeated int64 shape"],
    "ModelMetadataResponse": [
        "string name", "repeated string versions", "string platform",
        "repeated ModelMetadataResponse.TensorMetadata inputs", "repeated ModelMetadataResponse.TensorMetadata outputs",
    ],
    "InferTensorContents": [
        "repeated bool bool_contents", "repeated int32 int_contents", "repeated int64 int64_contents",
        "repeated uint32 uint_contents", "repeated uint64 uint64_contents", "repeated float fp32_contents",
        "repeated double fp64_contents", "repeated bytes bytes_contents",
    ],
    "ModelInferRequest.InferInputTensor": [
        "string name", "string datatype", "repeated int64 shape", "InferTensorContents contents = 5",
    ],
    "ModelInferRequest.InferRequestedOutputTensor": ["string name"],
    "ModelInferRequest": [
        "string model_name", "string model_version", "string id",
        "repeated ModelInferRequest.InferInputTensor inputs = 5",
        "repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6", "repeated bytes raw_input_contents = 7",
    ],
    "ModelInferResponse.InferOutputTensor": ["string name", "string datatype", "repeated int64 shape"],
    "ModelInferResponse": [
        "string model_name", "string model_version", "string id",
        "repeated ModelInferResponse.InferOutputTensor outputs = 5", "repeated bytes raw_output_contents = 6",
    ],
}  # fmt: skip


def _field(text: str, place: int, package: str) -> FieldDescriptorProto:
    """A field as `[repeated] TYPE NAME [= NUMBER]`."""
    told, _, number = text.partition(" = ")
    *repeated, kind, name = told.split()
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = FieldDescriptorProto(name=name, number=int(number or place), label=label)
    if kind[0].isupper():
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{package}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    return field


def classes(package: str, fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The classes of the messages of a package, by name, from a table like `FIELDS`."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    made: dict[str, DescriptorProto] = {}
    for name in sorted(fields, key=lambda name: name.count(".")):  # what others lie in comes first
        outer, _, own = name.rpartition(".")
        made[name] = made[outer].nested_type.add(name=own) if outer else file.message_type.add(name=own)
        made[name].field.extend(_field(text, place, package) for place, text in enumerate(fields[name], 1))
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in fields}


MESSAGES = classes(PACKAGE, FIELDS)
