"""What scores generators: evaluators, scores, features, classical fills; nothing that takes a step."""
