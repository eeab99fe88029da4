# In no order of steps, with a kill at any, is a place lost or a waiter forgotten.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# t/model/model.c goes through all of them, in worlds of some sizes, with the
# sources as they are; and then with one mistake each, which it has to find.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Config;
use CTest;
use Private;
use Test::More;

plan skip_all => 'it knows the registers of x86-64 on Linux only'
    if $Config{archname} !~ /^x86_64-linux/;

my @SOURCES = map { "fcgi_$_.c" } qw(slots stats bell line notice);
my $build = Private::temp_dir('model');

# The world that each mistake is tried in, where it names no other.
my $SMALL = '-DREQUESTS=1,2';

# What is said of each: who there is, and what may happen.
my %WORLDS = (
    'two children, a request each' => $SMALL,
    'two children, two requests behind each other' => '-DREQUESTS=1,1,2',
    'three children, two places' => '-DCHILDREN=3 -DREQUESTS=1,2,3 -DMAX=2',
    'both children are killed' => "$SMALL -DKILLS=2",
    'nobody is killed' => '-DREQUESTS=1,1,2 -DKILLS=0',
    'nobody is killed, two places' => '-DREQUESTS=1,1,2 -DKILLS=0 -DMAX=2',
    'requests that leave the line' => "$SMALL -DIMPATIENT=3",
    'a new child has the number of the killed one' => "$SMALL -DBORN=1",
    'connections are kept and handed on' => "$SMALL -DKEEPALIVE=1",
    'connections are kept, and somebody has pressed before' =>
        "$SMALL -DKEEPALIVE=1 -DPRESSES=1",
);

# [what is wrong, file, what stands there, what stands there instead, world].
my @MISTAKES = (
    ['a grant is made before it is recorded', 'fcgi_slots.c',
     "    begin_change(slots);\n    take_out(slots, &slots->line, number);\n"
         . "    set(&slots->waiting, slots->waiting - 1);\n"
         . "    set(&slots->granted",
     "    set(&slot->state, state);\n    begin_change(slots);\n"
         . "    take_out(slots, &slots->line, number);\n"
         . "    set(&slots->waiting, slots->waiting - 1);\n"
         . "    set(&slots->granted", "$SMALL -DIMPATIENT=3"],
    ['a grant is no change', 'fcgi_slots.c',
     "    begin_change(slots);\n    take_out(slots, &slots->line, number);\n"
         . "    set(&slots->waiting, slots->waiting - 1);\n"
         . "    set(&slots->granted",
     "    take_out(slots, &slots->line, number);\n"
         . "    set(&slots->waiting, slots->waiting - 1);\n"
         . "    set(&slots->granted"],
    ['a change ends before the state is there', 'fcgi_slots.c',
     "    set(&slot->state, state);\n    end_change(slots);\n",
     "    end_change(slots);\n    set(&slot->state, state);\n",
     "$SMALL -DIMPATIENT=3"],
    ['who is told is not out of the list', 'fcgi_slots.c',
     "        take_out(slots, granted, number);\n", ''],
    ['what was not told for sure is not told anew', 'fcgi_slots.c',
     "    if (slot->state == FCGI_SLOT_GRANTED) {\n"
         . "        append(slots, &stand->granted, number);\n    }\n", ''],
    ['nothing is repaired', 'fcgi_stats.c',
     "        fcgi_slots_repair(line);\n", "        (void)line;\n"],
    ['a lock is not made consistent', 'fcgi_stats.c',
     'rv = pthread_mutex_consistent(lock);', 'rv = 0;'],
    ['a killed child keeps its slots', 'fcgi_stats.c',
     'found |= fcgi_slots_clear(line, child);', 'found |= 0;'],
    ['a killed child keeps its connections', 'fcgi_stats.c',
     "    apr_atomic_set32(&share->in_use, 0);\n", ''],
    ['nobody looks for killed children', 'fcgi_notice.c',
     'next->attend_at = sooner(next->attend_at, now + ATTEND_EVERY);', ';'],
    ['who comes does not say so', 'fcgi_line.c',
     "        fcgi_stats_notify(fcgi_stats_me());\n", "        ;\n"],
    ['grants are not counted', 'fcgi_line.c',
     'sum.in_use + sum.idle + (slots ? slots->granted : 0)',
     'sum.in_use + sum.idle + (slots ? 0 : 0)', '-DREQUESTS=1,2,2 -DKILLS=0'],
    ['it is granted before the permit is free', 'fcgi_line.c',
     "    apr_atomic_dec32(count);\n    if (line->limits.max) {\n"
         . "        grant_next(line, &news);\n    }\n",
     "    if (line->limits.max) {\n        grant_next(line, &news);\n    }\n"
         . "    apr_atomic_dec32(count);\n"],
    ['another child is not notified of a grant', 'fcgi_line.c',
     "    news->child = slot->child;\n", ''],
    ['nobody rings in the own child', 'fcgi_line.c',
     "        ring_bells();\n", '', '-DREQUESTS=1,1'],
    ['who leaves with a grant does not take it', 'fcgi_line.c',
     "        take_permit(line, waiting, conn);\n"
         . "        state = FCGI_LINE_PERMIT;\n",
     "        fcgi_slots_leave(slots_of(line), waiting->slot);\n",
     '-DREQUESTS=1,2,2 -DIMPATIENT=2 -DKILLS=0'],
    ['a bell that nobody has hung up is not remembered', 'fcgi_bell.c',
     "        bell->rung = 1;\n", ''],
    ['a sweep grants nothing', 'fcgi_line.c',
     "        fcgi_stats_sweep(line->account);\n"
         . "        grant_next(line, news);\n",
     "        fcgi_stats_sweep(line->account);\n"],
    ['who waits does not say so to those that keep connections', 'fcgi_line.c',
     "            fcgi_stats_notify(i + 1);\n", "            ;\n",
     "$SMALL -DKEEPALIVE=1"],
    ['a press is counted before it is in the share', 'fcgi_stats.c',
     "    apr_atomic_inc32(&fcgi_stats_my_share(account)->pressing);\n"
         . "    apr_atomic_inc32(&account->presses);\n",
     "    apr_atomic_inc32(&account->presses);\n"
         . "    apr_atomic_inc32(&fcgi_stats_my_share(account)->pressing);\n",
     "$SMALL -DKEEPALIVE=1"],
);

# Builds it in a folder of its own and runs it: how it ended, and its words.
my $number = 0;

sub explore {
    my ($world, %change) = @_;
    my $dir = "$build/" . ++$number;
    mkdir $dir or die "$dir: $!";
    for my $file (@SOURCES) {
        my $text = Private::slurp("$CTest::TOP/$file");
        if ($file eq ($change{file} // '')) {
            my $there = () = $text =~ /\Q$change{from}\E/g;
            return ("$there places of it in $file", '') if $there != 1;
            $text =~ s/\Q$change{from}\E/$change{to}/;
        }
        Private::spew("$dir/$file", $text);
    }
    my @command = (
        $ENV{CC} || 'gcc', qw(-std=gnu99 -Wall -Wextra),
        # a mistake is found sooner than the compiler has thought about it
        ($change{file} ? qw(-O0 -w) : qw(-O1 -Werror)),
        qw(-fno-stack-protector -U_FORTIFY_SOURCE -D_GNU_SOURCE -pthread),
        "-I$dir", "-I$CTest::TOP", CTest::apr_flags(), split(' ', $world),
        '-o', "$dir/model", "$Bin/model/model.c", "$CTest::TOP/fcgi_tally.c",
        CTest::apr_libs());
    my ($end, $words) = CTest::capture(120, @command);
    return ("does not compile, $end", $words) if $end ne 'exit 0';
    return CTest::capture(240, "$dir/model");
}

for my $name (sort keys %WORLDS) {
    my ($end, $words) = explore($WORLDS{$name});
    chomp $words;
    is($end, 'exit 0', "$name: $words");
}
for my $mistake (@MISTAKES) {
    my ($name, $file, $from, $to, $world) = @$mistake;
    my ($end, $words) = explore($world // $SMALL, file => $file,
                                from => $from, to => $to);
    my ($found) = $words =~ /^violated: (?!too many states)(.*)/;
    ok(defined $found, "found: $name: " . ($found // $end))
         or diag "$end\n$words";
}
done_testing();
