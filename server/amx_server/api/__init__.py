"""gRPC services and the HTTP endpoints: translate, authorise, call the runtime. No logic and no state."""
