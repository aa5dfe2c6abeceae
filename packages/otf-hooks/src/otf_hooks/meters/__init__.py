"""What is measured of every run beside its own metrics: the machine, the pace, the network.

All of it is recorded as metrics, so that charts, guards and exports have it.

Read once a second by the writer, while the run is running (`board`):

    sys/cpu               percent of the machine's CPU time, all cores together
    sys/ram               percent of the machine's memory that is not available
    proc/cpu              percent of one core that this process takes; 200 is two cores
    proc/ram              bytes of memory that this process holds (resident)
    gpuN/util             percent of the time in which a kernel ran
    gpuN/memory           bytes in use, by whomever
    gpuN/memory_process   bytes in use by this process; absent where the driver does not tell
    gpuN/temperature      degrees Celsius
    gpuN/power            watts
    gpuN/clock_sm         MHz
    gpuN/clock_memory     MHz
    gpuN/throttle_power   1 where clocks are lowered for power, else 0
    gpuN/throttle_thermal 1 where clocks are lowered for temperature, else 0
    gpuN/throttle_hardware 1 where the hardware halves the clocks, for whatever cause, else 0
    gpuN/torch_allocated, gpuN/torch_reserved, gpuN/torch_max_allocated
                          bytes that tensors take, that torch holds, and that they took at most
    mps/torch_allocated, mps/torch_reserved
                          the same of an Apple GPU

Derived once a second from the steps (`pace`):

    step_time/p50, step_time/p95, step_time/p99
                          seconds, over the last 1000 steps
    data_wait/share       0 to 1: the part of the steps' time that went into waiting for data
    time_remaining        seconds until the limits are reached

Recorded with every step, beside `step_time` and `throughput`: `data_wait`, the seconds in which the
step waited for its batch. Sampled (`telemetry`):

    grad_norm             2-norm of all gradients, as the optimizer gets them
    weight_norm           2-norm of all weights that the optimizer holds
    update_ratio          2-norm of a step's change, as a share of that of the weights
    activation_zeros      0 to 1: the share of exact zeros in the outputs of activation functions

A GPU's number N is the process's own, as in `cuda:N`; the log says which device of the machine that
is (`visible`).
"""
