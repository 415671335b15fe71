/* The floor for a Modbus client: libmodbus reads registers, nothing else.
 *
 *   client PORT REQUESTS [REGISTERS]   prints microseconds per request, wall and CPU
 */
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

int main(int argc, char **argv)
{
    uint16_t into[MODBUS_MAX_READ_REGISTERS];
    int requests = argc > 2 ? atoi(argv[2]) : 0;
    int registers = argc > 3 ? atoi(argv[3]) : MODBUS_MAX_READ_REGISTERS;
    modbus_t *ctx = argc > 2 ? modbus_new_tcp("127.0.0.1", atoi(argv[1])) : NULL;
    if (!ctx || requests < 1 || registers < 1 || registers > MODBUS_MAX_READ_REGISTERS || modbus_connect(ctx) < 0) {
        fprintf(stderr, "client PORT REQUESTS [REGISTERS]\n");
        return 2;
    }
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < requests; i++)
        if (modbus_read_registers(ctx, 0, registers, into) != registers) {
            perror("read");
            return 1;
        }
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds(CLOCK_MONOTONIC) - wall;
    printf("%.2f %.2f\n", 1e6 * wall / requests, 1e6 * cpu / requests);
    modbus_close(ctx);
    modbus_free(ctx);
    return 0;
}
