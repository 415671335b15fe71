/* A Modbus device on libmodbus, for the interop tests.
 *
 *   server tcp PORT            listens on 127.0.0.1; PORT 0 takes any, the one taken is printed
 *   server many PORT           the same for several clients at once; tells each write, see below
 *   server rtu PATH BAUD UNIT  answers on a serial port, 8N1
 *
 * hr[i] = i, ir[i] = i ^ 0x5555, every third coil and every fifth discrete input is on. From hr 1000 on lie
 * numbers that this program has encoded. Not by modbus_set_float_abcd() and its like: what version 3.1.6
 * calls ABCD goes over the wire as BADC, and others differ.
 *
 * A write is told as `write NS FUNCTION ADDRESS VALUE...`: CLOCK_MONOTONIC, and what the device holds then.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#ifndef SIZE
#define SIZE 3000
#endif

static void put_float(uint16_t *at, float value, int swap_words, int swap_bytes)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t words[2] = {(uint16_t) (bits >> 16), (uint16_t) bits};
    for (int i = 0; i < 2; i++) {
        uint16_t word = words[swap_words ? 1 - i : i];
        at[i] = swap_bytes ? (uint16_t) (word << 8 | word >> 8) : word;
    }
}

static void put64(uint16_t *at, uint64_t bits)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint16_t) (bits >> (48 - 16 * i));
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void fill(modbus_mapping_t *map)
{
    static const char text[] = "libmodbus peer";
    uint16_t *hr = map->tab_registers;
    volatile int32_t whole = -123456789; /* else the macros' narrowing of constants warns */
    volatile int64_t large = -1234567890123456789LL;
    for (int i = 0; i < SIZE; i++) {
        hr[i] = (uint16_t) i;
        map->tab_input_registers[i] = (uint16_t) (i ^ 0x5555);
        map->tab_bits[i] = i % 3 == 0;
        map->tab_input_bits[i] = i % 5 == 0;
    }
    put_float(hr + 1000, 23.41f, 0, 0);
    put_float(hr + 1002, 23.41f, 0, 1);
    put_float(hr + 1004, 23.41f, 1, 0);
    put_float(hr + 1006, 23.41f, 1, 1);
    MODBUS_SET_INT32_TO_INT16(hr, 1008, whole);
    MODBUS_SET_INT64_TO_INT16(hr, 1010, large);
    put64(hr + 1014, 18446744073709551557ULL);
    put64(hr + 1018, bits_of(3.141592653589793));
    hr[1022] = (uint16_t) -2;
    hr[1023] = 0x8001;
    for (size_t i = 0; i < (sizeof text + 1) / 2; i++)
        hr[1030 + i] = (uint16_t) (text[2 * i] << 8 | (2 * i + 1 < sizeof text ? text[2 * i + 1] : 0));
}

static void serve(modbus_t *ctx, modbus_mapping_t *map, int forever)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        int size = modbus_receive(ctx, query);
        if (size > 0)
            modbus_reply(ctx, query, size, map);
        else if (size < 0 && !forever)
            return;
        else if (size < 0 && errno != EMBBADCRC && errno != EMBBADDATA && errno != ETIMEDOUT)
            return;
    }
}

static int listening_on(modbus_t *ctx)
{
    int listening = ctx ? modbus_tcp_listen(ctx, 8) : -1;
    struct sockaddr_in bound;
    socklen_t size = sizeof bound;
    if (listening < 0 || getsockname(listening, (struct sockaddr *) &bound, &size) < 0) {
        perror("listen");
        exit(1);
    }
    printf("ready %d\n", ntohs(bound.sin_port));
    fflush(stdout);
    return listening;
}

static void tell_write(const uint8_t *pdu, const modbus_mapping_t *map)
{
    int function = pdu[0], address = pdu[1] << 8 | pdu[2];
    int count = function == 15 || function == 16 ? pdu[3] << 8 | pdu[4] : 1;
    int bits = function == 5 || function == 15;
    struct timespec now;
    if ((!bits && function != 6 && function != 16 && function != 22) || address + count > SIZE)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("write %lld %d %d", 1000000000LL * now.tv_sec + now.tv_nsec, function, address);
    for (int i = address; i < address + count; i++)
        printf(" %d", bits ? map->tab_bits[i] : map->tab_registers[i]);
    puts("");
    fflush(stdout);
}

static int many(int port, modbus_mapping_t *map)
{
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", port);
    int listening = listening_on(ctx), highest = listening;
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    fd_set open, ready;
    FD_ZERO(&open);
    FD_SET(listening, &open);
    for (;;) {
        ready = open;
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0) {
            perror("select");
            return 1;
        }
        for (int fd = 0; fd <= highest; fd++) {
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listening) {
                int client = accept(listening, NULL, NULL);
                if (client >= 0 && client < FD_SETSIZE) {
                    FD_SET(client, &open);
                    highest = client > highest ? client : highest;
                }
                continue;
            }
            modbus_set_socket(ctx, fd);
            int size = modbus_receive(ctx, query);
            if (size > 0) {
                modbus_reply(ctx, query, size, map);
                tell_write(query + modbus_get_header_length(ctx), map);
            } else if (size < 0) {
                close(fd);
                FD_CLR(fd, &open);
            }
        }
    }
}

static int tcp(int port, modbus_mapping_t *map)
{
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", port);
    int listening = listening_on(ctx);
    while (modbus_tcp_accept(ctx, &listening) >= 0) {
        serve(ctx, map, 0);
        modbus_close(ctx);
    }
    perror("accept");
    return 1;
}

static int rtu(const char *path, int baud, int unit, modbus_mapping_t *map)
{
    modbus_t *ctx = modbus_new_rtu(path, baud, 'N', 8, 1);
    if (!ctx || modbus_set_slave(ctx, unit) < 0 || modbus_connect(ctx) < 0) {
        perror(path);
        return 1;
    }
    puts("ready 0");
    fflush(stdout);
    serve(ctx, map, 1);
    return 1;
}

int main(int argc, char **argv)
{
    modbus_mapping_t *map = modbus_mapping_new(SIZE, SIZE, SIZE, SIZE);
    if (!map)
        return 1;
    fill(map);
    if (argc == 3 && !strcmp(argv[1], "tcp"))
        return tcp(atoi(argv[2]), map);
    if (argc == 3 && !strcmp(argv[1], "many"))
        return many(atoi(argv[2]), map);
    if (argc == 5 && !strcmp(argv[1], "rtu"))
        return rtu(argv[2], atoi(argv[3]), atoi(argv[4]), map);
    fprintf(stderr, "server tcp PORT | server many PORT | server rtu PATH BAUD UNIT\n");
    return 2;
}
