/* Runs a function block that matiec translated: a line of inputs on stdin is a scan, a line of outputs the answer.
 * In: ms, Enable, Grant, OpAck, SetOffline, Fallback, extra inputs, status words. Compiled beside POUS.c. */

#include <stdio.h>
#include "iec_std_lib.h"
#include "accessor.h"

TIME __CURRENT_TIME;
BOOL __DEBUG;
unsigned long long common_ticktime__ = 20000000;

#include "POUS.h"
#include "POUS.c"

#define STATUS_WORDS (sizeof block.STATUS.value.table / sizeof block.STATUS.value.table[0])

static FB_EDGEAI_VERDICT block;

static double number(void) {
  double found = 0;
  if (scanf("%lf", &found) != 1) exit(1);
  return found;
}

int main(void) {
  double ms;
  FB_EDGEAI_VERDICT_init__(&block, 0);
  while (scanf("%lf", &ms) == 1) {
    long long ns = (long long)(ms * 1e6 + 0.5);
    __CURRENT_TIME.tv_sec = ns / 1000000000;
    __CURRENT_TIME.tv_nsec = ns % 1000000000;
    block.ENABLE.value = number() != 0;
    block.GRANT.value = number() != 0;
    block.OPACK.value = number() != 0;
    block.SETOFFLINE.value = number() != 0;
    block.FALLBACK.value = (REAL)number();
#ifdef TRIGGERED
    block.TRIGGER.value = number() != 0;
#endif
#ifdef VETO
    block.PLCLIMIT.value = (REAL)number();
    block.PLCPERMIT.value = number() != 0;
    block.FALLBACKPERMIT.value = number() != 0;
#endif
    for (unsigned i = 0; i < STATUS_WORDS; i++) block.STATUS.value.table[i] = (WORD)number();
    FB_EDGEAI_VERDICT_body__(&block);
    for (int i = 0; i < 8; i++) printf("%u ", block.CONTROL.value.table[i]);
    printf("%d %d %d %d %d %d ", block.COMMOK.value, block.INUSE.value, block.ACKREQ.value, block.NEWRESULT.value,
           block.DONE.value, block.BUSY.value);
    printf("%u %u %u %d %d %.9g\n", block.ERRORID.value, block.RESULTCODE.value, block.RESULTSEQ.value,
           block.VERDICT.value, block.SCORE.value, block.OUT.value);
    fflush(stdout);
  }
  return 0;
}
