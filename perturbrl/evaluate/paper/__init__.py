"""The paper's protocol: ten metrics of what a policy does to unperturbed test cells, and its true return."""
