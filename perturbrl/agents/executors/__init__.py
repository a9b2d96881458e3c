"""How an update is executed: step by step in torch, an epoch in one native call, or a recorded CUDA graph."""
