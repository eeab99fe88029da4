# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The scripted application of a soak: it does what the query string says, and
# closes kept connections when it likes.
#
#     id=, size=    the page that is asked for, see Soak/Pages.pm
#     how=HOW       one of the ways below
#     chunk=, pad=  of the records
#     length=1      with a Content-Length
#
# Ways that end well are in @GOOD, ways that make a broken answer in %BROKEN,
# with the statuses that the client may see in place of one that looks cut.
#
#     my $app = Soak::Application->start($dir, workers => 8);
package Soak::Application;

use strict;
use warnings;
use Exporter qw(import);
use FcgiApp;
use Fcntl qw(O_CREAT O_EXCL O_WRONLY);
use Digest::MD5 qw(md5_hex);
use Soak::Pages;
use Time::HiRes qw(sleep);

our @EXPORT_OK = qw(@GOOD %BROKEN);

our @GOOD = qw(plain plain plain late pauses stderr young closes extra);
our %BROKEN = (
    cut        => [502],        # closes in the middle of the answer
    reset      => [502],        # and so that a TCP client sees a RST
    short      => [502],        # says a Content-Length that it does not keep
    no_answer  => [502],        # END_REQUEST and no byte before it
    bad_header => [502],
    garbage    => [502],        # bytes that are no record
    overloaded => [503],
    silent     => [504],        # says nothing
);

my $HEAD = "Content-Type: text/plain\r\n";
my $IDLE = 0.3;         # part of the kept connections that it closes idle

my %WAYS = (
    plain      => \&plain,
    late       => sub { sleep 0.05 + rand 0.25; plain(@_) },
    pauses     => \&with_pauses,
    stderr     => \&with_stderr,
    young      => \&die_young,
    closes     => sub { plain(@_); 0 },
    extra      => sub { plain(@_); $_[0]->stdout('more'); 0 },
    events     => \&events,
    cut        => sub { part(@_); 0 },
    reset      => sub { part(@_); $_[0]->reset; 0 },
    short      => \&say_too_much,
    no_answer  => sub { $_[0]->end(0, FCGI_REQUEST_COMPLETE) },
    bad_header => sub { $_[0]->reply("no field\r\n\r\n") },
    garbage    => sub { $_[0]->send('x' x 200); 0 },
    overloaded => sub { $_[0]->end(0, FCGI_OVERLOADED); 0 },
    silent     => sub { $_[0]->wait_eof(60); 0 },
);

sub start {
    my ($class, $dir, $seed, %opt) = @_;
    return FcgiApp->start(sub { serve($_[0], $dir, $seed) }, %opt);
}

sub serve {
    my ($c, $dir, $seed) = @_;
    srand $seed + $c->number;
    while (my $request = eval { $c->read_request(60) }) {
        last if !$request->{stdin_complete};
        my %query = (dir => $dir, request => $request,
            map { split /=/, $_, 2 } split /&/,
                $request->{params}{QUERY_STRING});
        $WAYS{ $query{how} }->($c, \%query) or last;
        last if !($request->{flags} & FCGI_KEEP_CONN);
        last if rand() < $IDLE && !$c->readable(rand 0.5);
    }
    return;
}

# Header and content of the whole answer.
sub whole {
    my ($query) = @_;
    my $content = '';
    if ($query->{request}{params}{REQUEST_METHOD} eq 'POST') {
        my $body = $query->{request}{stdin};
        $content = 'got ' . length($body) . ' ' . md5_hex($body) . "\n";
    }
    $content .= Soak::Pages::page(@$query{qw(id size)});
    return $HEAD . ($query->{length} ? 'Content-Length: ' . length($content)
                    . "\r\n" : '') . "\r\n$content";
}

sub say_bytes {
    my ($c, $query, $bytes) = @_;
    return 1 if $bytes eq '';
    return $c->stdout($bytes, chunk => $query->{chunk},
                      padding => $query->{pad});
}

sub finish {
    my ($c) = @_;
    return $c->send(join '', $c->records(FCGI_STDOUT, $c->{id}, ''),
                    $c->end_record);
}

sub plain {
    my ($c, $query) = @_;
    return say_bytes($c, $query, whole($query)) && finish($c);
}

sub with_pauses {
    my ($c, $query) = @_;
    my $bytes = whole($query);
    my $piece = 1 + int(length($bytes) / (2 + rand 3));
    while ($bytes ne '') {
        say_bytes($c, $query, substr $bytes, 0, $piece, '') or return 0;
        sleep rand 0.1;
    }
    return finish($c);
}

sub with_stderr {
    my ($c, $query) = @_;
    $c->stderr("a word about $query->{id}\n");
    say_bytes($c, $query, whole($query)) or return 0;
    $c->stderr('and another');
    return finish($c);
}

# Closes without a byte of answer, the first time.
sub die_young {
    my ($c, $query) = @_;
    sysopen my $file, "$query->{dir}/$query->{id}",
        O_CREAT | O_EXCL | O_WRONLY and return 0;
    unlink "$query->{dir}/$query->{id}";
    return plain($c, $query);
}

# A part of the answer that is not all of it.
sub part {
    my ($c, $query) = @_;
    my $bytes = whole($query);
    $bytes = substr $bytes, 0, int rand length $bytes;
    say_bytes($c, $query, $bytes);
    sleep rand 0.1;
    return 0;
}

sub say_too_much {
    my ($c, $query) = @_;
    my $bytes = whole({ %$query, length => 1 });
    my $missing = 1 + int rand $query->{size};
    return say_bytes($c, $query, substr $bytes, 0, -$missing) && finish($c);
}

# An event stream: the page in five events.
sub events {
    my ($c, $query) = @_;
    my $size = 1 + int($query->{size} / 5);
    $c->stdout("Content-Type: text/event-stream\r\n\r\n") or return 0;
    my $page = Soak::Pages::page(@$query{qw(id size)});
    while ($page ne '') {
        say_bytes($c, $query, substr $page, 0, $size, '') or return 0;
        sleep 0.02 + rand 0.2;
    }
    return finish($c);
}

1;
