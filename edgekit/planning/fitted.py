"""Effects fitted to published speeds. Do not edit: ``tools/latency_fit/fit.py --write`` writes this file.

``DECODE``: shares of the memory's specified bandwidth. ``PREFILL``: shares of the processor's multiply-adds per second.
An effect is mean and variance of a term of the log efficiency, and the number of rows it was fitted on.
"""

from __future__ import annotations

from .efficiency import Effect, EfficiencyModel

# fmt: off

DECODE = EfficiencyModel(
    intercept=Effect(-0.4468, 0.01133, 203),
    effects={
        "processor": {
            "cpu": Effect(-0.0245, 0.00550, 77), "gpu": Effect(0.0201, 0.00601, 30),
            "mobile-gpu": Effect(-0.0210, 0.00588, 7), "npu": Effect(0.0043, 0.00590, 12),
            "shared-gpu": Effect(0.0207, 0.00580, 77),
        },
        "class": {
            "apple-metal": Effect(0.1665, 0.02703, 23), "desktop": Effect(0.1249, 0.02972, 4),
            "geforce": Effect(0.1964, 0.02535, 30), "iphone-gpu": Effect(-0.0620, 0.03504, 3),
            "jetson": Effect(0.0360, 0.02221, 54), "laptop": Effect(-0.0143, 0.02929, 12),
            "mini-pc": Effect(0.1279, 0.02981, 4), "phone-cpu": Effect(-0.1595, 0.01858, 23),
            "phone-gpu": Effect(-0.1428, 0.02583, 4), "phone-npu": Effect(-0.0767, 0.03971, 1),
            "raspberry-pi-4": Effect(-0.4704, 0.02981, 3), "raspberry-pi-5": Effect(0.0617, 0.02868, 25),
            "rk3588": Effect(0.0576, 0.02412, 13), "server": Effect(0.1517, 0.02360, 4),
        },
        "engine": {
            "executorch on cpu": Effect(0.0476, 0.01329, 18), "exllama on gpu": Effect(0.0160, 0.01365, 1),
            "ggml on cpu": Effect(-0.0799, 0.00921, 53), "ggml on gpu": Effect(-0.0142, 0.01326, 24),
            "ggml on mobile-gpu": Effect(0.0193, 0.01420, 2), "ggml on npu": Effect(-0.0207, 0.01523, 1),
            "ggml on shared-gpu": Effect(-0.0739, 0.01161, 22), "litert on cpu": Effect(-0.0831, 0.01381, 1),
            "litert on mobile-gpu": Effect(-0.0457, 0.01416, 1), "mlc on gpu": Effect(0.0512, 0.01366, 1),
            "mlc on mobile-gpu": Effect(-0.0290, 0.01313, 4), "mlc on shared-gpu": Effect(0.0385, 0.01325, 16),
            "mlx on shared-gpu": Effect(-0.0031, 0.01394, 3), "mnn on cpu": Effect(-0.0192, 0.01361, 2),
            "native on cpu": Effect(0.0746, 0.01383, 1), "onnxruntime on cpu": Effect(-0.0045, 0.01368, 2),
            "onnxruntime on gpu": Effect(0.0002, 0.01360, 4), "rkllm on npu": Effect(0.0320, 0.01461, 11),
            "tensorrt on shared-gpu": Effect(0.0680, 0.01316, 25), "vllm on shared-gpu": Effect(0.0252, 0.01339, 11),
        },
        "format": {
            "3bit on mobile-gpu": Effect(-0.0842, 0.01169, 2), "4bit on cpu": Effect(0.0179, 0.00505, 36),
            "4bit on gpu": Effect(-0.0655, 0.00726, 9), "4bit on mobile-gpu": Effect(0.0095, 0.01043, 3),
            "4bit on npu": Effect(-0.0207, 0.01523, 1), "4bit on shared-gpu": Effect(0.0445, 0.00476, 52),
            "4bit-k on cpu": Effect(-0.0320, 0.00536, 29), "4bit-k on gpu": Effect(-0.0269, 0.00672, 17),
            "4bit-k on shared-gpu": Effect(-0.0970, 0.00590, 10), "8bit on cpu": Effect(-0.0170, 0.00562, 10),
            "8bit on mobile-gpu": Effect(-0.0589, 0.01218, 1), "8bit on npu": Effect(0.0320, 0.01461, 11),
            "8bit on shared-gpu": Effect(0.0369, 0.00560, 5), "float16 on cpu": Effect(-0.0335, 0.00744, 2),
            "float16 on gpu": Effect(0.1456, 0.00721, 4), "float16 on mobile-gpu": Effect(0.0782, 0.01219, 1),
            "float16 on shared-gpu": Effect(0.0703, 0.00528, 10),
        },
        "engine in class": {
            "executorch on phone-cpu": Effect(0.1126, 0.01977, 18), "exllama on geforce": Effect(0.0378, 0.02179, 1),
            "ggml on apple-metal": Effect(0.1138, 0.02209, 20), "ggml on desktop": Effect(0.0799, 0.02657, 4),
            "ggml on geforce": Effect(-0.0335, 0.01962, 24), "ggml on jetson": Effect(-0.2887, 0.01978, 2),
            "ggml on laptop": Effect(-0.0092, 0.02640, 12), "ggml on mini-pc": Effect(0.0819, 0.02661, 4),
            "ggml on phone-cpu": Effect(0.0275, 0.01796, 2), "ggml on phone-gpu": Effect(0.0456, 0.02489, 2),
            "ggml on phone-npu": Effect(-0.0491, 0.03066, 1), "ggml on raspberry-pi-4": Effect(-0.3010, 0.02661, 3),
            "ggml on raspberry-pi-5": Effect(0.0395, 0.02615, 25), "ggml on rk3588": Effect(-0.0390, 0.02305, 2),
            "ggml on server": Effect(-0.0687, 0.02051, 1), "litert on phone-cpu": Effect(-0.1966, 0.02267, 1),
            "litert on phone-gpu": Effect(-0.1081, 0.02466, 1), "mlc on geforce": Effect(0.1211, 0.02184, 1),
            "mlc on iphone-gpu": Effect(-0.0397, 0.02875, 3), "mlc on jetson": Effect(0.0910, 0.01953, 16),
            "mlc on phone-gpu": Effect(-0.0289, 0.02397, 1), "mlx on apple-metal": Effect(-0.0072, 0.02340, 3),
            "mnn on phone-cpu": Effect(-0.0455, 0.02156, 2), "native on server": Effect(0.1765, 0.02279, 1),
            "onnxruntime on geforce": Effect(0.0004, 0.02150, 4), "onnxruntime on server": Effect(-0.0107, 0.02197, 2),
            "rkllm on rk3588": Effect(0.0758, 0.02716, 11), "tensorrt on jetson": Effect(0.1610, 0.01903, 25),
            "vllm on jetson": Effect(0.0597, 0.02035, 11),
        },
    },
    prior_variances={"processor": 0.0064, "class": 0.0625, "engine": 0.0169, "format": 0.0169, "engine in class": 0.04},
    source_variance=0.0064,
    noise_variance=0.0144,
    deviation_scale=0.55,
)

PREFILL = EfficiencyModel(
    intercept=Effect(-1.7709, 0.06918, 84),
    effects={
        "processor": {
            "cpu": Effect(-0.1037, 0.06302, 41), "gpu": Effect(-0.0278, 0.07522, 6),
            "mobile-gpu": Effect(-0.0217, 0.07609, 2), "npu": Effect(0.0046, 0.07814, 11),
            "shared-gpu": Effect(0.1309, 0.06785, 24),
        },
        "class": {
            "apple-metal": Effect(0.5228, 0.10189, 4), "geforce": Effect(-0.0494, 0.11330, 6),
            "iphone-gpu": Effect(-0.0386, 0.11605, 2), "jetson": Effect(-0.2900, 0.09910, 20),
            "laptop": Effect(-0.0947, 0.07802, 9), "phone-cpu": Effect(-0.4470, 0.08538, 9),
            "raspberry-pi-4": Effect(0.0780, 0.08077, 1), "raspberry-pi-5": Effect(0.2476, 0.06088, 18),
            "rk3588": Effect(0.0081, 0.12252, 11), "server": Effect(0.0318, 0.09871, 4),
        },
        "engine": {
            "executorch on cpu": Effect(-0.0347, 0.06774, 6), "ggml on cpu": Effect(-0.1468, 0.04344, 29),
            "ggml on gpu": Effect(-0.0278, 0.07522, 6), "ggml on shared-gpu": Effect(0.2941, 0.07161, 4),
            "litert on cpu": Effect(-0.0684, 0.06977, 1), "mlc on mobile-gpu": Effect(-0.0217, 0.07609, 2),
            "mlc on shared-gpu": Effect(-0.1368, 0.07064, 1), "mnn on cpu": Effect(-0.1484, 0.06883, 2),
            "native on cpu": Effect(0.3696, 0.05353, 1), "onnxruntime on cpu": Effect(-0.0751, 0.04752, 2),
            "rkllm on npu": Effect(0.0046, 0.07814, 11), "tensorrt on shared-gpu": Effect(-0.0263, 0.06460, 19),
        },
        "format": {
            "3bit on mobile-gpu": Effect(0.2350, 0.07321, 1), "4bit on cpu": Effect(0.7078, 0.03174, 13),
            "4bit on mobile-gpu": Effect(-0.2567, 0.07323, 1), "4bit on shared-gpu": Effect(0.0845, 0.05131, 21),
            "4bit-k on cpu": Effect(-0.1178, 0.03325, 16), "4bit-k on gpu": Effect(-0.0278, 0.07522, 6),
            "4bit-k on shared-gpu": Effect(0.0465, 0.05320, 3), "8bit on cpu": Effect(-0.1827, 0.03282, 10),
            "8bit on npu": Effect(0.0046, 0.07814, 11), "float16 on cpu": Effect(-0.5110, 0.04258, 2),
        },
        "engine in class": {
            "executorch on phone-cpu": Effect(-0.0039, 0.00973, 6), "ggml on apple-metal": Effect(0.0327, 0.00977, 4),
            "ggml on geforce": Effect(-0.0031, 0.00982, 6), "ggml on laptop": Effect(-0.0059, 0.00968, 9),
            "ggml on raspberry-pi-4": Effect(0.0049, 0.00969, 1), "ggml on raspberry-pi-5": Effect(0.0155, 0.00961, 18),
            "ggml on server": Effect(-0.0307, 0.00944, 1), "litert on phone-cpu": Effect(-0.0076, 0.00975, 1),
            "mlc on iphone-gpu": Effect(-0.0024, 0.00983, 2), "mlc on jetson": Effect(-0.0152, 0.00976, 1),
            "mnn on phone-cpu": Effect(-0.0165, 0.00974, 2), "native on server": Effect(0.0411, 0.00955, 1),
            "onnxruntime on server": Effect(-0.0083, 0.00948, 2), "rkllm on rk3588": Effect(0.0005, 0.00985, 11),
            "tensorrt on jetson": Effect(-0.0029, 0.00969, 19),
        },
    },
    prior_variances={"processor": 0.09, "class": 0.16, "engine": 0.09, "format": 0.09, "engine in class": 0.01},
    source_variance=0.16,
    noise_variance=0.0625,
    deviation_scale=0.8,
)
