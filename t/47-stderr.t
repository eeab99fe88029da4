# Every line an application says on stderr is one line of the error log.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Test::More;

my $HEAD = "Content-Type: text/plain\r\n\r\n";

# 1 MB, and no line like another.
my @MANY = map { "line $_ " . 'abcdefg' x ($_ % 29) } 1 .. 9_000;
my $LONG = join '', map { "$_," } 1 .. 1041;        # 5098 bytes

# What the application does for /app/NAME, and the lines that are logged.
my %case = (
    one => [[[err => "one\n"]], ['one']],
    joined => [[map { [err => $_] } 'first', ' half, ', "second\nthi", "rd",
                "\n"], ['first half, second', 'third']],
    bytes => [[map { [err => $_] } split //, "by\nte\r\ns\n"],
              [qw(by te s)]],
    several => [[[err => "a\nb\n\n\nc\n"]], [qw(a b c)]],
    crlf => [[[err => "a\r\nb\r"], [err => "\n\r\n"], [err => "c d\r\n"]],
             ['a', 'b', 'c d']],
    spaces => [[[err => "  PHP  message: x \n"]], ['  PHP  message: x ']],
    no_end => [[[err => 'a'], [err => "\nno newline"]], ['a', 'no newline']],
    end_cr => [[[err => "last\r"]], ['last']],
    empty => [[[err => "\n\r\n\n"]], []],
    controls => [[[err => "a\0b\x01c\e[31md\te\x7ff\rg\n"]], undef],
    nul_only => [[[err => "\0\0\n"]], undef],
    eight_bits => [[[err => "\xc3\xa4 \xff\n"]], ["\xc3\xa4 \xff"]],
    backslash => [[[err => "C:\\new \"x\" %s %n %%\n"]],
                  ["C:\\new \"x\" %s %n %%"]],
    padded => [[[err => "x\n", 250], [err => "y\n", 1]], [qw(x y)]],
    ended => [[[err => "x\n"], [err_end => '']], ['x']],
    many => [[[err => join '', map { "$_\n" } @MANY]], \@MANY],
);

my %mixed = (
    mixed => [[err => 'one '], [out => "${HEAD}b"], [err => "line\nanot"],
              [out => 'ody'], [err => 'her'], [end => '']],
);

# Those in which the request fails; what was said is in the log, too.
my %failing = (
    close => [[err => 'why I close'], ['close']],
    close_after => [[out => $HEAD], [err => 'why I close'], ['close']],
    no_header => [[err => 'why no header'], [out => "\n\n"], ['wait']],
    no_answer => [[err => 'why no answer'], [end => '']],
    overloaded => [[err => 'why not'], [end => FCGI_OVERLOADED]],
);

# Lines around every length at which a line could be split.
my @lengths = (1 .. 3, map { $_ - 2 .. $_ + 2 }
               255, 256, 511, 512, 1023, 1024, 2047, 2048, 4096, 8192);
my %long = (
    long => [[[err => "$LONG\n"]], [$LONG]],
    long_joined => [[map { [err => $_] } unpack '(a7)*', "$LONG\nx\n"],
                    [$LONG, 'x']],
    long_no_end => [[[err => $LONG]], [$LONG]],
    long_crlf => [[[err => "$LONG\r\nx\r\n"]], [$LONG, 'x']],
    lengths => [[[err => join '', map { 'l' x $_ . "\n" } @lengths]],
                [map { 'l' x $_ } @lengths]],
    lengths_crlf => [[[err => join '', map { 'l' x $_ . "\r\n" } @lengths]],
                     [map { 'l' x $_ } @lengths]],
    megabyte => [[[err => 'm' x 1_000_000 . "\n"]], ['m' x 1_000_000]],
);

# What is said around the other steps.
my %around = (
    before => ['', "${HEAD}body"],
    amid_headers => [substr($HEAD, 0, 20), substr($HEAD, 20) . 'body'],
    amid_body => ["${HEAD}b", 'ody'],
    after => ["${HEAD}body", ''],
);

sub steps_of {
    my ($name, $where) = @_;
    return @{ $failing{$name} } if $failing{$name};
    return @{ $mixed{$name} } if $mixed{$name};
    my @steps = @{ ($case{$name} || $long{$name})->[0] };
    my ($first, $rest) = @{ $around{$where} };
    return ($first ne '' ? [out => $first] : (), @steps,
            $rest ne '' ? [out => $rest] : (), [end => '']);
}

my %do = (
    err => sub {
        my ($c, $text, $padding) = @_;
        $c->stderr($text, padding => $padding);
    },
    err_end => sub { $_[0]->stderr('') },
    out => sub { $_[0]->stdout($_[1]) },
    end => sub { $_[0]->end(0, $_[1] || 0) },
    close => sub { $_[0]->close },
    wait => sub { $_[0]->wait_eof(5) },
);

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my (undef, $name, $where) = split m{/}, $request->{params}{PATH_INFO};
    for my $step (steps_of($name, $where // '')) {
        my ($what, @args) = @$step;
        $do{$what}->($c, @args);
    }
});

my $httpd = Httpd->start(
    vars => { APP => $app->handler },
    config => <<'EOC');
<Location /app>
  SetHandler @APP@
  FcgiRetry Off
</Location>
EOC

# Asks for it: (answer, the lines of stderr in the log that have the id that
# the access log gives to the request).
my $number = 0;

sub ask {
    my ($name, $where) = @_;
    my $query = ++$number;
    my $answer = Client->get($httpd->port, "/app/$name/$where?$query");
    $httpd->wait_for_access(qr{\?$query HTTP}, 5) or return $answer;
    my ($id) = $httpd->access_log =~ m{\?$query HTTP.* (\S+)$}m;
    return ($answer, lines_of($id));
}

sub lines_of {
    my ($id) = @_;
    return map { /\[\Q$id\E\] .*?FCGI10: \S+: stderr: (.*)/ ? $1 : () }
        split /\n/, $httpd->error_log;
}

# httpd escapes what it logs.
sub unescape {
    my ($text) = @_;
    my %plain = (n => "\n", r => "\r", t => "\t", b => "\b", v => "\x0b");
    $text =~ s/\\(?:x([0-9a-f]{2})|(.))/
        defined $1 ? chr hex $1 : $plain{$2} \/\/ $2/gex;
    return $text;
}

sub ok_answer {
    my ($answer) = @_;
    is_deeply([@$answer{qw(status body complete)}], [200, 'body', 1],
              'the answer is as if there were none');
    return;
}

for my $where (sort keys %around) {
    subtest "said $where" => sub {
        for my $name (grep { $case{$_}[1] } sort keys %case) {
            my ($answer, @lines) = ask($name, $where);
            ok_answer($answer);
            my @expected = @{ $case{$name}[1] };
            is(scalar @lines, scalar @expected, "$name: so many lines");
            ok(join("\n", map { unescape($_) } @lines)
               eq join("\n", @expected), 'and what they say')
                or diag explain([@lines[0 .. ($#lines > 9 ? 9 : $#lines)]]);
        }
    };
}

subtest 'control bytes are escaped' => sub {
    my ($answer, @lines) = ask('controls', 'before');
    ok_answer($answer);
    is(scalar @lines, 1, 'one line');
    like($lines[0], qr/^a\\+(?:x00|0)b\\x01c\\x1b\[31md\\te\\x7ff\\rg$/,
         'every byte is there');
    ($answer, @lines) = ask('nul_only', 'after');
    like($lines[0], qr/^(?:\\+(?:x00|0)){2}$/, 'NUL alone');
    unlike($httpd->error_log, qr/[\x00-\x08\x0b-\x1f\x7f]/, 'none is raw');
};

# Puts lines together that are marked as going on.
sub put_together {
    my (@pieces) = @_;
    my @lines = ('');
    for my $piece (@pieces) {
        my $goes_on = $piece =~ s/ \[continued\]\z//;
        $lines[-1] .= unescape($piece);
        push @lines, $goes_on ? () : '';
    }
    return pop @lines eq '' ? @lines : ('the last one should go on');
}

subtest 'long lines are split with a mark' => sub {
    for my $name (sort keys %long) {
        my ($answer, @pieces) = ask($name, 'before');
        ok_answer($answer);
        my @lines = put_together(@pieces);
        my @expected = @{ $long{$name}[1] };
        is(scalar @lines, scalar @expected, "$name: so many lines");
        ok("@lines" eq "@expected", 'and nothing is lost');
        my @longest = sort { length $b <=> length $a } @pieces;
        cmp_ok(length $longest[0], '<', 8000, 'none is too long for the log');
    }
    my (undef, @pieces) = ask('long', 'before');
    cmp_ok(scalar @pieces, '>', 1, 'it was split');
    is(scalar(grep { / \[continued\]$/ } @pieces), @pieces - 1, 'marked');
};

subtest 'of a request that fails' => sub {
    for my $name (sort keys %failing) {
        my ($answer, @lines) = ask($name, '');
        isnt($answer->status . $answer->complete, '2001', "$name fails");
        is_deeply([@lines], [$failing{$name}[$name eq 'close_after'][1]],
                  'and what it said last is logged');
    }
};

subtest 'a line with pieces of the answer in between' => sub {
    my ($answer, @lines) = ask('mixed', '');
    ok_answer($answer);
    is_deeply(\@lines, ['one line', 'another'], 'is one line');
};

$httpd->ok_healthy;
done_testing;
