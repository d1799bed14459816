"""What is asked over gRPC: definitions, and questions about members and audiences."""
