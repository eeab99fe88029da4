# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A client of HTTP/2 in plain text, with prior knowledge (RFC 9113, 3.3), that
# sends GETs on one connection, one stream after another. As little as the
# benchmark of instructions needs: small answers, and what is not expected
# dies. Its fields are sent as they are (RFC 7541, 6.2.2), so that each request
# is the same to httpd. Frames and fields are for others, too:
#
#     Streams::frame($type, $flags, $stream, $content)    # their bytes
#     Streams::field($name, $value)
#
#     my $conn = Streams->connect($port);
#     my $answer = $conn->get('/a?b', 'user-agent' => 'x');
#     $answer->{is_200}, {body}
#     $conn->close;
package Streams;

use strict;
use warnings;
use Client;

# Frames, and their flags (RFC 9113, 6).
use constant { DATA => 0, HEADERS => 1, SETTINGS => 4, WINDOW_UPDATE => 8 };
use constant { END_STREAM => 1, ACK => 1, END_HEADERS => 4 };

sub connect {
    my ($class, $port) = @_;
    my $self = bless { conn => Client->connect($port), next => 1,
                       bytes => '' }, $class;
    $self->{conn}->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                        . frame(SETTINGS, 0, 0, ''));
    return $self;
}

sub close { return $_[0]{conn}->close }

sub frame {
    my ($type, $flags, $stream, $content) = @_;
    return pack('xnCCN', length $content, $type, $flags, $stream) . $content;
}

# A name and a value of less than 127 bytes each, in no table.
sub field {
    my ($name, $value) = @_;
    return pack 'xC/a*C/a*', $name, $value;
}

sub get {
    my ($self, $path, %fields) = @_;
    my $stream = $self->{next};
    $self->{next} += 2;
    my $block = join '', field(':method', 'GET'), field(':scheme', 'http'),
        field(':authority', 'localhost'), field(':path', $path),
        map { field($_, $fields{$_}) } sort keys %fields;
    $self->{conn}->send(
        frame(HEADERS, END_STREAM | END_HEADERS, $stream, $block));
    my $answer = { is_200 => 0, body => '' };
    1 while !$self->take_frame($answer);
    return $answer;
}

# Reads a frame into the answer: true if it was the last one.
sub take_frame {
    my ($self, $answer) = @_;
    my ($type, $flags, $content) = $self->read_frame;
    if ($type == SETTINGS) {
        $self->{conn}->send(frame(SETTINGS, ACK, 0, '')) if !($flags & ACK);
        return 0;
    }
    return 0 if $type == WINDOW_UPDATE;
    die "a frame of type $type\n" if $type != HEADERS && $type != DATA;
    # an update of the table's size may come before (RFC 7541, 6.1 and 6.3)
    $answer->{is_200} = $content =~ /^[\x20-\x3f]*\x88/ if $type == HEADERS;
    $answer->{body} .= $content if $type == DATA;
    return $flags & END_STREAM;
}

sub read_frame {
    my ($self) = @_;
    my ($high, $low, $type, $flags) = unpack 'CnCC', $self->read_bytes(9);
    return ($type, $flags, $self->read_bytes($high * 65536 + $low));
}

sub read_bytes {
    my ($self, $len) = @_;
    while (length $self->{bytes} < $len) {
        my $more = $self->{conn}->read_some(60);
        die "no whole answer\n" if $more eq '';
        $self->{bytes} .= $more;
    }
    return substr $self->{bytes}, 0, $len, '';
}

1;
