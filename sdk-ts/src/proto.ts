// The generated contracts of proto/amx/v1, for programs that speak the protocol themselves.

export * from "./gen/amx/v1/agent_pb.js";
export * from "./gen/amx/v1/common_pb.js";
export * from "./gen/amx/v1/engine_pb.js";
export * from "./gen/amx/v1/link_pb.js";
export * from "./gen/amx/v1/memory_pb.js";
export * from "./gen/amx/v1/message_pb.js";
