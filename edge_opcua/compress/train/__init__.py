"""What learns from data: fine-tuning, distillation and quantisation-aware training, with PyTorch.

Nothing else of this program needs PyTorch. What is trained is the ONNX graph itself, as it stands: its
weights are trained and written back into the same file, so nothing is converted or exported anew
(docs/adr/0036).
"""
