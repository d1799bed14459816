"""What people ask for, each with its checks: definitions, control of campaigns, triggers and single
messages, runs. Called by the gRPC server; raises Problem."""
